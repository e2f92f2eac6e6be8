// Writes libs/definition/anabranch.schema.json, which editors use to check and complete
// anabranch.yaml. Run it after changing what a definition may say: node tools/write-json-schema.ts
import { writeFileSync } from 'node:fs';
import { definitionJsonSchema } from '@anabranch/definition';

const file = new URL('../libs/definition/anabranch.schema.json', import.meta.url);
writeFileSync(file, `${JSON.stringify(definitionJsonSchema(), null, 2)}\n`);
