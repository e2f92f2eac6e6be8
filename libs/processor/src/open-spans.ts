import type { Branch } from '@anabranch/contract';
import { rangeAttributes, type StepSpans } from '@anabranch/service';
import type { Stretch } from './stretch.ts';

/**
 * Opens a span for each stretch that has a block with a trace: under the first such block's, with links to
 * the others'.
 * @param run the batch-processor's
 */
export function openSpans(
  spans: StepSpans,
  branch: Branch,
  stretches: readonly Stretch[],
  run: string | null = null,
): void {
  for (const stretch of stretches) {
    const { traces, coverage } = stretch;
    if (traces.length > 0) {
      spans.child(stretch, traces, branch, {
        ...rangeAttributes(coverage),
        'anabranch.branch': branch,
        'anabranch.records': coverage.split[branch],
        ...(run !== null && { 'anabranch.run': run }),
      });
    }
  }
}
