import { settings, text } from '@anabranch/service';
import { databaseFaults, databaseSettings } from './database-settings.ts';

export const config = settings(
  {
    ...databaseSettings,
    READER_ROLE: text(
      'the name of a role, up to 63 letters, digits or underscores',
      /^[a-z_][a-z0-9_]{0,62}$/,
    )
      .default('anabranch_reader')
      .describe('a role that may read the views and the ledger; made if it is missing'),
  },
  databaseFaults,
);
