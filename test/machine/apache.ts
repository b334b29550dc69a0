// Apache is upgraded in the middle of bans.
import type { Scene } from '../../tools/machine/scenario.ts';
import { after, quietly, storm, VERSION } from '../../tools/machine/storm-of-bans.ts';

export const expects = 'apt full-upgrade of Apache during a storm of bans loses no ban, and none fails';

/** The image has a repository with the packages of a later Apache: see build-image. */
const LATER = '-o Dir::Etc::SourceList=/srv/apache/sources.list -o Dir::Etc::SourceParts=-';

export async function run({ machine, expect }: Scene): Promise<void> {
  const present = (await machine.done(`${VERSION} banctl`)).trim();
  await expect(
    'apt reads the repository',
    `list_only; fresh; fail2ban_bans 203.0.113.55; until_code 203.0.113.55 403
     ${quietly(`apt-get update ${LATER}`)}`,
    '203.0.113.55 403',
  );
  await expect(
    'the upgrade',
    `${storm('198.51.100', quietly(`apt-get full-upgrade -y ${LATER}`))}
     ${VERSION} apache2 apache2-bin apache2-data apache2-utils | grep -c later; audit 180`,
    `${after(present)}\n4\nclean`,
  );
}
