/** Two labels at least, and a last one of letters, or a typing error in an address would pass for a name. RFC 1123, and `_`. */
const HOST_NAME = /^(?=.{4,253}$)(?:[a-z\d_](?:[a-z\d_-]{0,61}[a-z\d_])?\.)+[a-z](?:[a-z\d-]{0,61}[a-z\d])$/i;

export function isHostName(text: string): boolean {
  return HOST_NAME.test(text);
}
