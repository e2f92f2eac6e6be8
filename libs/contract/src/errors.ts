export type ContractErrorCode = 'NOT_OURS' | 'VERSION' | 'DAMAGED' | 'INCOMPLETE';

/** A message on an internal topic that isn't what one of our services wrote. */
export class ContractError extends Error {
  override readonly name = 'ContractError';
  readonly code: ContractErrorCode;

  constructor(code: ContractErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
