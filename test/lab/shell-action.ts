/** The action that banctl replaces, as far as dash runs it. */
export const shellAction = `[Definition]
actionban = LINE="Require not ip <ip>"
            grep -qxF "$LINE" "<banlist>" || echo "$LINE" >> "<banlist>"
            <apache_reload_cmd>
actionunban = sed -i "\\|^Require not ip <ip>$|d" "<banlist>"
              <apache_reload_cmd>
[Init]
banlist = /etc/apache2/djangoapp/banlist.conf
apache_reload_cmd = apachectl graceful
`;
