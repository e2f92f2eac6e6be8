import { setTimeout as pause } from 'node:timers/promises';

const pollMilliseconds = 50;
/** Nothing takes that long; it only bounds how long a broken chain keeps the suite waiting. */
const patienceMilliseconds = 180_000;

/**
 * Looks again and again until there is something to see.
 * @param look gives undefined while it isn't there yet; an error ends the wait
 * @param known says, when patience is at its end, what there is instead
 */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  known: () => Promise<string> | string = () => '',
): Promise<T> {
  const deadline = performance.now() + patienceMilliseconds;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) {
      return seen;
    }
    if (performance.now() > deadline) {
      throw new Error(`Waited in vain for ${what}. ${await known()}`);
    }
    await pause(pollMilliseconds);
  }
}
