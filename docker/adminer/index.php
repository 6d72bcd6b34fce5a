<?php
// Debian's Adminer, 4.8 or 5, with dsflow's login and dsflow's databases.

require __DIR__ . '/databases.php';

function adminer_object() {
    $plugins = [new Dsflow\Login()];
    if (class_exists('Adminer\Plugins')) {
        return new Adminer\Plugins($plugins);
    }
    require Dsflow\ADMINER . '/plugins/plugin.php';
    return new AdminerPlugin($plugins);
}

if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/ready') {
    exit(is_file(Dsflow\ADMINER . '/adminer.php') ? 'ok' : http_response_code(503));
}
Dsflow\restrict();
// libpq reads it: a session writes only where somebody says so in it.
putenv('PGOPTIONS=-c default_transaction_read_only=on');
include Dsflow\ADMINER . '/adminer.php';
