// Package rlimit tells what the system allows this process.
package rlimit
