<?php
// The databases that dsflow names, and how Adminer gets to them and to nothing else.
//
// DSFLOW_STATE is a folder that only its owner reads: `password` opens the door, `databases.json` lists what is behind
// it. Whoever logs in chooses a name; the host, the user and the password of a database never reach the browser.

namespace Dsflow;

const ADMINER = '/usr/share/adminer';
const USER = 'dsflow';
// All of Adminer's systems. Of these only what databases.json names may be asked for.
const SYSTEMS = ['sqlite', 'sqlite2', 'pgsql', 'server', 'oracle', 'mssql', 'mongo', 'elastic', 'clickhouse', 'simpledb', 'firebird', 'igdb', 'imap'];

/** The databases by name: system, file | server, username, password, database. */
function databases(): array {
    static $known = null;
    return $known ??= json_decode(file_get_contents(getenv('DSFLOW_STATE') . '/databases.json'), true);
}

/** The name of the database that this request is about, or null. */
function asked(): ?string {
    foreach (databases() as $name => $database) {
        if (($_GET[$database['system']] ?? null) === (string) $name) {
            return (string) $name;
        }
    }
    return null;
}

/** What Adminer opens: the database's own name, or a copy of an SQLite file. */
function location(string $name): string {
    $database = databases()[$name];
    return $database['system'] === 'sqlite' ? copy_of($name, $database['file']) : $database['database'];
}

/**
 * A copy of an SQLite file as it is now, for reading. The original stays as it is, and so its folder can be read-only:
 * there SQLite itself could not even open a file in WAL mode, which wants two more files beside it.
 */
function copy_of(string $name, string $file): string {
    $copy = sys_get_temp_dir() . '/' . basename($name) . '.sqlite';
    $lock = fopen("$copy.lock", 'c');
    flock($lock, LOCK_EX);
    clearstatcache();
    $version = version_of($file);
    if (is_file($file) && (!is_file($copy) || $version === null || @file_get_contents("$copy.version") !== $version)) {
        take($file, "$copy.new");
        rename("$copy.new", $copy);
        file_put_contents("$copy.version", $version);
    }
    fclose($lock);
    return $copy;
}

/** What changes when something is written to an SQLite file; null while it is too young for its clock to show that. */
function version_of(string $file): ?string {
    $seen = [];
    foreach ([$file, "$file-wal"] as $path) {
        $time = is_file($path) ? filemtime($path) : 0;
        if ($time >= time() - 1) {
            return null;
        }
        $seen[] = $time . ' ' . ($time ? filesize($path) : 0);
    }
    return implode(' ', $seen);
}

/** Copy an SQLite file with its log, such that both are of one moment: others may be writing. */
function take(string $file, string $copy): void {
    for ($attempt = 0; $attempt < 20; $attempt++) {
        @unlink("$copy-wal");
        $log = is_file("$file-wal") && @copy("$file-wal", "$copy-wal") ? filesize("$copy-wal") : 0;
        copy($file, $copy);
        // What was added to the log since then does no harm; a log that was written into the file meanwhile would.
        if (beginning($file, filesize($copy)) === hash_file('sha256', $copy)
            && ($log === 0 || beginning("$file-wal", $log) === hash_file('sha256', "$copy-wal"))) {
            break;
        }
        usleep(50_000);
    }
    chmod($copy, 0600);
    $database = new \SQLite3($copy);
    // Brings the log into the file, which then needs none beside it.
    $database->exec('PRAGMA journal_mode = DELETE');
    $database->close();
    chmod($copy, 0400);
}

/** Keep everybody from writing into a copy for as long as this request lasts; root could write whatever its mode is. */
function hold(string $copy): void {
    static $held = [];
    $held[$copy] = new \SQLite3($copy, SQLITE3_OPEN_READONLY);
    $held[$copy]->exec('BEGIN');
    $held[$copy]->querySingle('SELECT count(*) FROM sqlite_master');
}

/** The hash of the first bytes of a file. */
function beginning(string $file, int $length): string {
    $hash = hash_init('sha256');
    if ($stream = @fopen($file, 'r')) {
        hash_update_stream($hash, $stream, $length);
        fclose($stream);
    }
    return hash_final($hash);
}

/** Adminer's plug-in: the login form, who may pass it, and with what a database is opened. */
class Login {
    public function name() {
        return 'dsflow';
    }

    public function loginForm() {
        $options = '';
        foreach (array_keys(databases()) as $name) {
            $shown = htmlspecialchars((string) $name, ENT_QUOTES);
            $options .= "<option value='$shown'" . ($name === asked() ? ' selected' : '') . ">$shown</option>";
        }
        echo "<table class='layout'>\n",
            "<tr><th>Database<td><select name='auth[name]'>$options</select>\n",
            "<tr><th>Password<td><input type='password' name='auth[password]' autocomplete='current-password' autofocus>\n",
            "</table>\n<p><input type='submit' value='Login'>\n";
        return true;
    }

    public function login($username, $password) {
        $right = rtrim(file_get_contents(getenv('DSFLOW_STATE') . '/password'), "\n");
        return $right !== '' && hash_equals($right, (string) $password) ? true : 'Wrong password.';
    }

    public function credentials() {
        $database = databases()[asked()];
        return $database['system'] === 'sqlite' ? ['', '', ''] : [$database['server'], $database['username'], $database['password']];
    }

    public function databases($flush = true) {
        return [location(asked())];
    }

    public function serverName($server) {
        return htmlspecialchars((string) $server, ENT_QUOTES);
    }

    public function head($dark = null) {
        // Adminer would ask its maker for a newer version.
        $nonce = function_exists('Adminer\get_nonce') ? \Adminer\get_nonce() : \get_nonce();
        echo "<script nonce='$nonce'>verifyVersion = function () {};</script>\n";
        return null;
    }
}

/** Only a database that is listed can be asked for, and only as it is listed. */
function restrict(): void {
    if (isset($_POST['auth'])) {
        $given = (array) $_POST['auth'];
        $name = (string) ($given['name'] ?? '');
        if (!isset(databases()[$name])) {
            http_response_code(400);
            exit('There is no such database.');
        }
        $_POST['auth'] = [
            'driver' => databases()[$name]['system'],
            'server' => $name,
            'username' => USER,
            'password' => (string) ($given['password'] ?? ''),
            'db' => location($name),
        ];
    }
    $name = asked();
    foreach (SYSTEMS as $system) {
        if ($name === null || $system !== databases()[$name]['system']) {
            unset($_GET[$system]);
        }
    }
    unset($_GET['ext']);
    if ($name === null) {
        unset($_GET['username'], $_GET['db']);
    } elseif (isset($_GET['username'])) {
        $_GET['username'] = USER;
        $_GET['db'] = location($name);
        if (databases()[$name]['system'] === 'sqlite' && is_file($_GET['db'])) {
            hold($_GET['db']);
        }
    }
}
