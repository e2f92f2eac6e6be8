import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { ConfigError } from './errors.ts';
import { hideCredentials } from './printable.ts';
import { isSecret } from './settings.ts';

/** A zod object whose keys are the names of settings and whose result is C. */
export type SettingsOf<C> = z.ZodType<C> & { readonly shape: Readonly<Record<string, z.ZodType>> };

/** `process.env` or the like. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads a service's settings. A setting is a variable of its name, or a file whose path is in
 * `<NAME>_FILE` (how Docker and Kubernetes hand over secrets; one line break at its end is dropped).
 * A variable that is empty counts as unset.
 * @throws ConfigError with a line for every fault
 */
export function readConfig<C>(schema: SettingsOf<C>, env: Environment): C {
  const faults: string[] = [];
  const values: Record<string, string> = {};
  const faulty = new Set<PropertyKey>();
  for (const [name, setting] of Object.entries(schema.shape)) {
    const value = env[name] || undefined;
    const file = env[`${name}_FILE`] || undefined;
    if (value !== undefined && file !== undefined) {
      faults.push(`${name} and ${name}_FILE are both set: unset one of them`);
      faulty.add(name);
    } else if (value !== undefined) {
      values[name] = value;
    } else if (file !== undefined) {
      try {
        values[name] = readSetting(file);
      } catch (error) {
        const must = `${name}_FILE must name a file that can be read and isn't empty`;
        const reason = (error as NodeJS.ErrnoException).code ?? 'empty';
        // Someone may have put the secret itself where its path should be.
        const shown = isSecret(setting) ? '' : `, is ${quote(file)}`;
        faults.push(`${must}${shown}: ${reason}`);
        faulty.add(name);
      }
    }
  }
  const result = schema.safeParse(values);
  for (const issue of result.error?.issues ?? []) {
    const name = issue.path[0];
    if (name === undefined) {
      // It concerns several settings, of which those with a fault of their own may be the cause.
      if (![...faulty].some((known) => issue.message.includes(String(known)))) {
        faults.push(issue.message);
      }
    } else if (!faulty.has(name)) {
      faults.push(describeFault(schema, String(name), values[String(name)], issue.message));
    }
  }
  if (faults.length > 0 || !result.success) {
    throw new ConfigError([...new Set(faults)]);
  }
  return result.data;
}

function readSetting(file: string): string {
  const content = readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  if (content === '') {
    throw new Error('empty');
  }
  return content;
}

/** The settings as a log may show them: secrets masked, those without a value left out. */
export function shownConfig<C extends object>(
  schema: SettingsOf<C>,
  config: C,
): Record<string, unknown> {
  const shown: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(config as Record<string, unknown>)) {
    const setting = schema.shape[name];
    if (value !== undefined) {
      shown[name] = setting !== undefined && isSecret(setting) ? '***' : value;
    }
  }
  return shown;
}

function describeFault(
  schema: SettingsOf<unknown>,
  name: string,
  value: string | undefined,
  message: string,
): string {
  const setting = schema.shape[name];
  if (value === undefined) {
    // Either it is missing, or its default doesn't hold here, such as a strange host name.
    return message.startsWith('must be')
      ? `${name} ${message}: set it`
      : `${name} is missing: ${setting?.description ?? 'it has no default'}`;
  }
  const fault = message.startsWith('must be')
    ? `${name} ${message}`
    : `${name} is wrong: ${message}`;
  return setting !== undefined && isSecret(setting) ? fault : `${fault}, is ${quote(value)}`;
}

function quote(value: string): string {
  return JSON.stringify(hideCredentials(value.length > 80 ? `${value.slice(0, 80)}…` : value));
}
