<?php

return [
    'default' => 'sqlite',
    'connections' => ['sqlite' => ['driver' => 'sqlite', 'database' => env('NOTES_FOLDER').'/laravel.sqlite3', 'prefix' => '']],
];
