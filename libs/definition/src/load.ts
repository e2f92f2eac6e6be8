import { readFileSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { DefinitionError } from './errors.ts';
import type { Definition } from './model.ts';
import { parseDefinition } from './parse.ts';

/** Longer than what parseDefinition takes of either kind of file, in bytes of UTF-8. */
const maxBytes = 4 * 1024 * 1024;

/**
 * Reads a definition and the schemas it names, whose paths are relative to its own.
 *
 * @throws {DefinitionError} with everything that is wrong, also if a file can't be read
 */
export function loadDefinition(file: string): Definition {
  let text: string;
  try {
    text = readText(file);
  } catch (error) {
    const message = `can't read the definition: ${(error as Error).message}`;
    throw new DefinitionError([{ file, line: 1, column: 1, text: '', message }], { cause: error });
  }
  const readSchema = (path: string): { file: string; text: string } => {
    const schemaFile = isAbsolute(path) ? path : join(dirname(file), path);
    return { file: schemaFile, text: readText(schemaFile) };
  };
  return parseDefinition({ file, text, readSchema });
}

function readText(file: string): string {
  try {
    const status = statSync(file);
    // A pipe would block, and a device never end.
    if (!status.isFile()) {
      throw new Error('not a file');
    }
    if (status.size > maxBytes) {
      throw new Error('too large');
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(reasons[code ?? ''] ?? (error as Error).message, { cause: error });
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'no permission',
  ERR_ENCODING_INVALID_ENCODED_DATA: 'not UTF-8',
};
