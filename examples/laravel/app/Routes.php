<?php

namespace App;

use App\Http\Controllers\IdentityController;
use Illuminate\Foundation\Support\Providers\RouteServiceProvider;
use Illuminate\Support\Facades\Route;

/** Which paths there are. */
class Routes extends RouteServiceProvider
{
    public function map(): void
    {
        // Without the middleware of pages, so that a question never makes a session.
        Route::post('/orgcast/identity', IdentityController::class);
        Route::middleware('web')->group(base_path('routes/web.php'));
    }
}
