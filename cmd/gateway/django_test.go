package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orgcast/internal/cli"
	"orgcast/internal/testkit"
)

// TestDjangoStores: check says what the stores of Django's sessions cannot see and what is missing, and "session read" reads
// a signed cookie of Django.
func TestDjangoStores(t *testing.T) {
	env := environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_DJANGO_SECRET_KEYS": "another-key-0123456789-0123456789\n" + testkit.DjangoSecret + "\n"}
	cookie := testkit.SignDjango(testkit.DjangoSession("42", "acme", time.Time{}), time.Now())
	signed, cached := "--session-store=django-signed", "--session-store=django-cache"
	for name, test := range map[string]struct {
		args []string
		env  environment
		says []string
		err  error
	}{
		"signed, checked":       {args: []string{"check", signed, "--session-cookie=sessionid"}, says: []string{"a logout only deletes the cookie in one browser", "a password that was changed on another device", "--session-store=http"}},
		"cached, checked":       {args: []string{"check", cached}, says: []string{"a user who was deactivated", "usually sessionid"}},
		"no keys":               {args: []string{"check", signed}, env: environment{"ORGCAST_ORIGINS": testOrigin}, says: []string{"--django-secret-keys: required"}, err: cli.ErrUsage},
		"a short key":           {args: []string{"check", signed}, env: environment{"ORGCAST_DJANGO_SECRET_KEYS": "a," + testkit.DjangoSecret}, says: []string{"key 1: must have at least 32 bytes"}, err: cli.ErrUsage},
		"not hexadecimal":       {args: []string{"check", signed}, env: environment{"ORGCAST_DJANGO_SECRET_KEYS": "hex-x"}, says: []string{"key 1: hex- must be followed by"}, err: cli.ErrUsage},
		"a password for no URL": {args: []string{"check", cached, "--django-cache-redis-password=x"}, says: []string{"--django-cache-redis: must be set"}, err: cli.ErrUsage},
		"version 0":             {args: []string{"check", cached, "--django-cache-version=0"}, says: []string{"--django-cache-version"}, err: cli.ErrUsage},
		"signed, read":          {args: []string{"session", "read", signed, "--session-cookie=sessionid", "--redis=redis://127.0.0.1:1", cookie}, says: []string{"user          42", "organization  acme", "revoked       unknown"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.env == nil {
				test.env = env
			}
			stdout, stderr, err := execute(t, test.env, "", test.args...)
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			for _, want := range test.says {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("output does not tell of %q:\n%s%s", want, stdout, stderr)
				}
			}
			if strings.Contains(stdout+stderr, testkit.DjangoSecret) {
				t.Error("the secret key is printed")
			}
		})
	}
}
