<?php

namespace App\Models;

use Illuminate\Database\Eloquent\Model;

class Membership extends Model
{
    public $timestamps = false;
    protected $fillable = ['organization', 'role'];
}
