import { buildServices } from '../tools/build-services.ts';

/** Vitest's globalSetup: the tests run the services' bundles, as they are deployed. */
export default buildServices;
