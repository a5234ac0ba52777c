<?php

// Makes the application. Debian's package of the framework has its own loader; with Composer, load vendor/autoload.php.

error_reporting(E_ALL & ~E_DEPRECATED); // Laravel 8 is older than PHP 8.2
require_once '/usr/share/php/Illuminate/autoload.php';
require_once __DIR__.'/../../../clients/php/Orgcast.php';
spl_autoload_register(function (string $class): void {
    if (str_starts_with($class, 'App\\')) {
        require __DIR__.'/../app/'.strtr(substr($class, 4), '\\', '/').'.php';
    }
});

// What Laravel writes by itself goes next to the database.
$folder = getenv('NOTES_FOLDER');
foreach (['PACKAGES', 'SERVICES'] as $cache) {
    putenv("APP_{$cache}_CACHE=$folder/laravel-".strtolower($cache).'.php');
}

$app = new Illuminate\Foundation\Application(dirname(__DIR__));
$app->useStoragePath($folder);
$app->singleton(Illuminate\Contracts\Http\Kernel::class, App\Http\Kernel::class);
$app->singleton(Illuminate\Contracts\Console\Kernel::class, Illuminate\Foundation\Console\Kernel::class);
$app->singleton(Illuminate\Contracts\Debug\ExceptionHandler::class, Illuminate\Foundation\Exceptions\Handler::class);

return $app;
