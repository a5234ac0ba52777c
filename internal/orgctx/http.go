package orgctx

import "net/http"

// Middleware puts the organization that resolve finds into the context of each request. A request
// for which resolve finds none goes on without one: [Guard] refuses it where that matters.
func Middleware(resolve func(*http.Request) (ID, bool)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := Without(r.Context())
			if id, ok := resolve(r); ok && !id.IsZero() {
				ctx = With(ctx, id)
			}
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// Guard answers 403 to requests whose context carries no organization, and passes on the others.
func Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := From(r.Context()); !ok {
			http.Error(w, "no organization", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
