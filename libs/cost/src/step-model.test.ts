import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fusionUnits, processorUnits, StepModel, total } from './step-model.ts';

const secondsOf = (
  records: number,
): { [stage in 'load' | 'preprocess' | 'process' | 'store']: number } => ({
  load: 0.001 + records * 200 * 1e-9,
  preprocess: records * 1e-7,
  process: 0.002 + records * 4e-7,
  store: 0.01 + rowsOf(records) * 1e-6,
});
const rowsOf = (records: number): number => 100 + records / 10;
const sizeOf = (records: number) => ({ bytes: records * 200, records, rows: rowsOf(records) });

function learn(steps: number): StepModel {
  const model = new StepModel(processorUnits);
  for (let i = 0; i < steps; i++) {
    const records = 500 + ((i * 7919) % 20_000);
    model.observe(sizeOf(records), secondsOf(records));
  }
  return model;
}

describe('a model of steps', () => {
  it('predicts nothing until it has seen enough, and says how much it has', () => {
    expect(learn(9).predict(sizeOf(1000))).toBeNull();
    expect(learn(10).predict(sizeOf(1000))).not.toBeNull();
    expect(learn(10).samples).toBe(10);
  });

  it('predicts each stage of a step whose rows are not known yet', () => {
    const model = learn(300);
    fc.assert(
      fc.property(fc.integer({ min: 500, max: 40_000 }), (records) => {
        const predicted = model.predict({ ...sizeOf(records), rows: null });
        const measured = secondsOf(records);
        expect(predicted).not.toBeNull();
        for (const stage of ['load', 'preprocess', 'process', 'store'] as const) {
          expect(Math.abs((predicted?.[stage] ?? 0) / measured[stage] - 1)).toBeLessThan(0.05);
        }
      }),
    );
    expect((model.secondsOf(10_000) ?? 0) / total(secondsOf(10_000))).toBeCloseTo(1, 1);
  });

  it('charges a step without records for its commit only', () => {
    const predicted = learn(300).predict({ bytes: 0, records: 0, rows: 0 });
    expect(predicted).toMatchObject({ load: 0, preprocess: 0, process: 0 });
    expect(predicted?.store).toBeCloseTo(0.01, 3);
  });

  it('is the same after a restart', () => {
    const model = learn(120);
    const text = model.encode();
    const again = StepModel.decode(text, processorUnits);
    expect(again.samples).toBe(120);
    expect(again.secondsOf(3000)).toBeCloseTo(model.secondsOf(3000) ?? 0, 6);
    expect(text).not.toMatch(/\s/);
    expect(text.length).toBeLessThan(700);
  });

  it('begins anew from what is no model', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.constant(`c1;1,2;${'1,'.repeat(7)}x`)), (text) => {
        expect(StepModel.decode(text, processorUnits).samples).toBe(0);
      }),
    );
    expect(StepModel.decode(null, fusionUnits).samples).toBe(0);
    expect(StepModel.decode(learn(20).encode().replace('20,', '-20,'), fusionUnits).samples).toBe(
      0,
    );
  });

  it('says the speeds S, P, C and W with their samples', () => {
    const [load, , , store] = learn(200).speeds();
    expect(load).toMatchObject({ stage: 'load', unit: 'bytes', samples: 200 });
    expect(1 / (load?.each ?? 0) / 1e9).toBeCloseTo(1, 1);
    expect(store).toMatchObject({ unit: 'rows' });
    expect((store?.each ?? 0) * 1e6).toBeCloseTo(1, 1);
  });
});
