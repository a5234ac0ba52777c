<?php

// Makes the tables and some people, once.

use App\Models\User;
use Illuminate\Database\Schema\Blueprint;
use Illuminate\Support\Facades\Hash;
use Illuminate\Support\Facades\Schema;

$app = require __DIR__.'/bootstrap/app.php';
touch(getenv('NOTES_FOLDER').'/laravel.sqlite3');
$app->make(Illuminate\Contracts\Console\Kernel::class)->bootstrap();

if (! Schema::hasTable('users')) {
    Schema::create('users', function (Blueprint $table) {
        $table->id();
        $table->string('name');
        $table->string('password');
    });
    Schema::create('memberships', function (Blueprint $table) {
        $table->id();
        $table->foreignId('user_id');
        $table->string('organization');
        $table->string('role');
    });
    Schema::create('sessions', function (Blueprint $table) {
        $table->string('id')->primary();
        $table->foreignId('user_id')->nullable();
        $table->string('ip_address', 45)->nullable();
        $table->text('user_agent')->nullable();
        $table->text('payload');
        $table->integer('last_activity')->index();
    });
    foreach (['ada' => ['acme' => 'admin', 'globex' => 'member'], 'bob' => ['globex' => 'admin']] as $name => $roles) {
        $user = User::create(['name' => $name, 'password' => Hash::make("$name-password")]);
        foreach ($roles as $organization => $role) {
            $user->memberships()->create(['organization' => $organization, 'role' => $role]);
        }
    }
}
