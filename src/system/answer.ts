/** What another program or one of its files says; or, in words, why nothing may be concluded from it. */
export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: string };
