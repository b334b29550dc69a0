import { jailNames, jailSocket } from '../fail2ban/client.ts';
import type { Finding } from './finding.ts';

/** Jails whose Python action finds no server: they work, but start banctl for each ban. */
export async function servedFindings(
  client: string,
  isServed: (socket: string) => Promise<boolean>,
): Promise<Finding[]> {
  const known = await jailNames(client);
  if (!known.ok) return [];
  const jails = known.value;
  const sockets = await Promise.all(jails.map((jail) => jailSocket(client, jail)));
  const findings = jails.map(async (jail, index): Promise<Finding[]> => {
    const socket = sockets[index];
    if (socket === undefined || (await isServed(socket))) return [];
    const message = `nothing serves jail ${jail} at ${socket}; systemctl enable --now banctl.socket`;
    return [{ code: 'not-served', holder: jail, message }];
  });
  return (await Promise.all(findings)).flat();
}
