/** The answer of another program or one of its files, or the reason why nothing is known. */
export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: string };
