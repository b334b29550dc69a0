// Configurations that get past the kit's ban, and such that look as if they did. The text of a virtual host each; what they
// open stands below /open/.

export const ban = `<If "true">
  AuthMerging And
  <RequireAll>
    Require all granted
    IncludeOptional /x/banlist.conf
  </RequireAll>
</If>
`;

/** The rule of the ban directory. */
const rule = `Require expr "! -e '/x/bans/%{REMOTE_ADDR}'"`;

const cache = `CacheRoot CACHE
CacheEnable disk /open
CacheIgnoreNoLastMod On
CacheIgnoreCacheControl On
CacheDefaultExpire 3600
`;

const inLocation = (text: string) =>
  text.replace('<If "true">', '<Location "/">').replace('</If>', '</Location>');

type Texts = Readonly<Record<string, (ban: string) => string>>;

export const past: Texts = {
  'mod_cache, whose quick handler is on by default': (text) => `${text}${cache}`,
  'a later <If>': (text) => `${text}<If "%{REQUEST_URI} =~ m#^/open/#">\nRequire all granted\n</If>\n`,
  'an <If> that widens': (text) =>
    `${text}<If "%{REQUEST_URI} =~ m#^/open/#">\nAuthMerging Or\nRequire all granted\n</If>\n`,
  'an <If> within a <Location>': (text) =>
    `<Location /open>\n<If "true">\nRequire all granted\n</If>\n</Location>\n${text}`,
  'an <Else> within a <Location>': (text) =>
    `<Location /open>\n<If "false">\n</If>\n<Else>\n<RequireAny>\nRequire all granted\n</RequireAny>\n</Else>\n</Location>\n${text}`,
  'an <If> within <Files>': (text) =>
    `<Files "index.html">\n<If "true">\nRequire all granted\n</If>\n</Files>\n${text}`,
  'Satisfy Any': (text) => `${text}<Location /open>\nSatisfy Any\n</Location>\n`,
  'Satisfy Any with Allow': (text) =>
    `${text}<Location /open>\nOrder deny,allow\nAllow from all\nSatisfy any\n</Location>\n`,
  'a <Location> after a ban that stands in one': (text) =>
    `${inLocation(text)}<Location "/open/">\nRequire all granted\n</Location>\n`,
  'a ban for some methods': (text) =>
    text
      .replace('<RequireAll>', '<Limit POST>\n<RequireAll>')
      .replace('</RequireAll>', '</RequireAll>\n</Limit>'),
  'a ban beside what else admits': (text) =>
    text
      .replace('<RequireAll>', '<RequireAny>\nRequire all granted\n<RequireAll>')
      .replace('</RequireAll>', '</RequireAll>\n</RequireAny>'),
  'a <RequireAll> beside what else admits': (text) =>
    text.replace('<RequireAll>', 'Require all granted\n<RequireAll>'),
  "the directory's rule beside what else admits": () =>
    `<Location "/">\nRequire all granted\n${rule}\n</Location>\n`,
  "the directory's rule beside a <RequireAll> that admits": () =>
    `<Location "/">\n<RequireAll>\nRequire all granted\nRequire method GET\n</RequireAll>\n${rule}\n</Location>\n`,
  'a later <If> that is merged no more': (text) =>
    `${text}<If "true">\nAuthMerging And\nAuthMerging Off\nRequire all granted\n</If>\n`,
  'Satisfy Any within the ban': (text) => text.replace('  Require all', '  Satisfy Any\n  Require all'),
  'a ban that is merged with what admits': (text) =>
    `<Location /open>\nRequire all granted\n</Location>\n${text.replace('<RequireAll>', 'AuthMerging Or\n<RequireAll>')}`,
  'an <If> before a ban in a <Location>': (text) =>
    `<If "%{REQUEST_URI} =~ m#^/open/#">\nRequire all granted\n</If>\n${inLocation(text)}`,
};

export const harmless: Texts = {
  'mod_cache in a <Location>': (text) =>
    `${text}CacheRoot CACHE\n<Location "/open">\nCacheEnable disk\n</Location>\nCacheIgnoreNoLastMod On\n`,
  'a <RequireAny> with the ban alone': (text) =>
    text
      .replace('<RequireAll>', '<RequireAny>\n<RequireAll>')
      .replace('</RequireAll>', '</RequireAll>\n</RequireAny>'),
  'the ban alone': (text) => text,
  "the directory's rule alone": () => `<Location "/">\n${rule}\n</Location>\n`,
  "the directory's rule in a <RequireAll> with what admits": () =>
    `<Location "/">\n<RequireAll>\nRequire all granted\n${rule}\n</RequireAll>\nRequire all denied\n</Location>\n`,
  "the directory's rule in a section within one that admits": () =>
    `<Location "/">\nRequire all granted\n<If "true">\n${rule}\n</If>\n</Location>\n`,
  'a ban that replaces what admits': (text) =>
    `<Location /open>\nRequire all granted\n</Location>\n${text.replace('AuthMerging And', 'AuthMerging Or\nAuthMerging Off')}`,
  'mod_cache as a usual handler': (text) => `${text}${cache}CacheQuickHandler off\n`,
  'an <If> before it': (text) => `<If "%{REQUEST_URI} =~ m#^/open/#">\nRequire all granted\n</If>\n${text}`,
  'a later <If> that is merged': (text) =>
    `${text}<If "%{REQUEST_URI} =~ m#^/open/#">\nAuthMerging And\nRequire all granted\n</If>\n`,
  'a later <If> that closes': (text) => `${text}<If "%{REQUEST_URI} == '/'">\nRequire all denied\n</If>\n`,
  'an <If> without Require': (text) => `${text}<If "true">\nHeader set X-Test 1\n</If>\n`,
  'a <Location> with its own Require': (text) =>
    `${text}<Location /open>\nRequire all granted\n</Location>\n`,
  '<Files> and <Directory> with their own': (text) =>
    `${text}<Directory "/">\nRequire all granted\n</Directory>\n<Files "*.html">\nRequire all granted\n</Files>\n`,
  'a <Location> before a ban that stands in one': (text) =>
    `<Location "/open/">\nRequire all granted\n</Location>\n${inLocation(text)}`,
  'sections that a condition leaves out': (text) =>
    `${text}<IfModule mod_none.c>\n<If "true">\nRequire all granted\n</If>\nCacheEnable disk /\n</IfModule>\n<IfDefine NONE>\nSatisfy Any\n</IfDefine>\n<IfModule !mod_none.c>\n</IfModule>\n`,
  'a redirect by mod_rewrite': (text) => `${text}RewriteEngine On\nRewriteRule ^/elsewhere /open/ [R]\n`,
};
