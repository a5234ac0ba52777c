package orgctx_test

import (
	"context"
	"errors"
	"testing"

	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// The original's context manager turned each error of its body into another one, and ran the body
// for an organization that nobody knew.
func TestScopedBlockKeepsErrorsAndRefusesTheUnknown(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	errOwn := errors.New("own")
	blocks := map[string]func(ctx context.Context, dir orgctx.Directory, id orgctx.ID, fn func(context.Context) error) error{
		"alone": orgctx.Do,
		"inside another": func(ctx context.Context, dir orgctx.Directory, id orgctx.ID, fn func(context.Context) error) error {
			return orgctx.Do(ctx, directory{globex: true}, globex, func(ctx context.Context) error { return orgctx.Do(ctx, dir, id, fn) })
		},
	}
	for name, do := range blocks {
		t.Run(name, func(t *testing.T) {
			for _, want := range []error{errOwn, context.Canceled, context.DeadlineExceeded, orgctx.ErrNoOrganization, nil} {
				got := do(t.Context(), directory{acme: true}, acme, func(context.Context) error { return want })
				if got != want { //nolint:errorlint // the very error must come back
					t.Errorf("got %v, want %v itself", got, want)
				}
			}
			func() {
				defer func() {
					if got := recover(); got != errOwn { //nolint:errorlint // the very value must come back
						t.Errorf("panic: got %v, want %v itself", got, errOwn)
					}
				}()
				_ = do(t.Context(), directory{acme: true}, acme, func(context.Context) error { panic(errOwn) })
			}()
			for what, id := range map[string]orgctx.ID{"unknown": testkit.Org(t, "nowhere"), "none": {}} {
				ran := false
				err := do(t.Context(), directory{acme: true}, id, func(context.Context) error {
					ran = true
					return nil
				})
				if want := map[string]error{"unknown": errUnknown, "none": orgctx.ErrNoOrganization}[what]; ran || !errors.Is(err, want) {
					t.Errorf("%s organization: got %v, ran %t, want %v before the work", what, err, ran, want)
				}
			}
		})
	}
}
