import { parseArgs } from 'node:util';
import { buildImages, ImageError } from './build-images.ts';

const usage = `npm run images                          builds the four services' images with docker or podman
npm run images -- --tag 1.2.3           tags them anabranch/<service>:1.2.3; default: the version of package.json
npm run images -- --prefix reg.io/team  names them reg.io/team/<service>
npm run images -- --help                this text`;

const { prefix, tag } = readOptions();
try {
  const images = await buildImages({ prefix, tag, verbose: true });
  console.log('\nimage, its size, and that of the layers on top of the base image');
  for (const { name, bytes, ownBytes } of images) {
    console.log(`${name}  ${(bytes / 1e6).toFixed(1)} MB  ${(ownBytes / 1e6).toFixed(1)} MB`);
  }
} catch (error) {
  if (!(error instanceof ImageError)) {
    throw error;
  }
  console.error(error.message);
  process.exitCode = error.code === 'NO_ENGINE' ? 69 : 1;
}

function readOptions(): { prefix: string; tag?: string } {
  try {
    const { values } = parseArgs({
      options: {
        prefix: { type: 'string', default: 'anabranch' },
        tag: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    return values;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(64);
  }
}
