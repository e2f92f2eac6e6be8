import { integer, settings, text } from '@anabranch/service';

export const config = settings({
  SPOOL_DIRECTORY: text()
    .default('spool')
    .describe(
      "where records wait for a run as Parquet, in a folder of the instance's name, which is emptied at the start",
    ),
  SLICE_BYTES: integer(1_048_576, 1_073_741_824)
    .default(33_554_432)
    .describe(
      'a run is stored in slices of about this many bytes of records, each in a transaction of its own',
    ),
});
