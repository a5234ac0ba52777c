<?php

namespace App\Models;

use Illuminate\Database\Eloquent\Relations\HasMany;
use Illuminate\Foundation\Auth\User as Authenticatable;

class User extends Authenticatable
{
    public $timestamps = false;
    protected $fillable = ['name', 'password'];
    protected $rememberTokenName = '';

    public function memberships(): HasMany
    {
        return $this->hasMany(Membership::class);
    }

    /** Returns the role in an organization, or null. */
    public function role(string $organization): ?string
    {
        return $this->memberships->firstWhere('organization', $organization)?->role;
    }
}
