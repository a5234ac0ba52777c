<?php

return [
    'session_key' => env('NOTES_SESSION_KEY'),
    'gateway' => env('NOTES_GATEWAY'),
    'publish_key' => env('NOTES_PUBLISH_KEY'),
];
