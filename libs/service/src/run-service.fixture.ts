import { runService } from './run-service.ts';
import { choice, integer, settings } from './settings.ts';

/** A service for the tests of the process: BEHAVIOUR says in which way it misbehaves. */
await runService({
  name: 'fixture',
  version: '0.0.0',
  env: process.env,
  config: settings({
    ROUNDS: integer(1, 9).default(1).describe('unused'),
    BEHAVIOUR: choice(['good', 'stuck', 'throws', 'rejects', 'fatal', 'waits', 'fails']).default(
      'good',
    ),
  }),
  start: async ({ config, log, fatal, waitFor }) => {
    const { BEHAVIOUR } = config;
    if (BEHAVIOUR === 'waits') {
      await waitFor('Godot', () => Promise.reject(new Error('not today')));
    } else if (BEHAVIOUR === 'fails') {
      throw new Error('cannot start');
    } else if (BEHAVIOUR === 'fatal') {
      setTimeout(fatal, 0, new Error('taken over'), 75);
    } else if (BEHAVIOUR === 'throws') {
      setTimeout(() => {
        throw new Error('out of the blue');
      }, 0);
    } else if (BEHAVIOUR === 'rejects') {
      setTimeout(() => {
        void Promise.reject(new Error('nobody listens'));
      }, 0);
    }
    // As a connection would: the process must not end by running out of work.
    const connection = setInterval(() => undefined, 1000);
    return {
      ready: () => ({ ok: true, details: {} }),
      stop: async () => {
        if (BEHAVIOUR === 'stuck') {
          await new Promise(() => undefined);
        }
        clearInterval(connection);
        log.info('work ended');
      },
    };
  },
});
