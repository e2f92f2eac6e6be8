import { settings } from '@anabranch/service';

export const config = settings({});
