package main

import (
	"encoding/json"
	"errors"
	"net/http"

	"orgcast"
)

// showReport answers GET /reports/{id}. It runs behind the gateway's own Guard, for members only. Servers of your own put
// orgcast.Middleware and orgcast.Guard before their handlers.
type showReport struct{ objects *orgcast.Objects }

func (s showReport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	report, err := orgcast.Get[entry](r.Context(), s.objects, "report", id)
	switch {
	case errors.Is(err, orgcast.ErrNotFound): // also if only other organizations have it
		http.Error(w, "no such report", http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, "temporarily unavailable", http.StatusServiceUnavailable)
		return
	}
	user, _ := orgcast.UserFrom(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "title": report.Value.Title, "user": user})
}
