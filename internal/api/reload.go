package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Reloader reads the settings and their files again.
type Reloader interface {
	// Reload applies everything or nothing. An error has a line for each mistake, none of which
	// contains a secret.
	Reload() (Reloaded, error)
}

// Reloaded says what came of a reload.
type Reloaded struct {
	// Changed are the names of the settings that have another value now.
	Changed []string
	// Restart are the names of changed settings that need a restart. If there are any, nothing was
	// applied.
	Restart []string
}

var (
	errRestart  = errors.New("api: settings have changed that need a restart")
	errSettings = errors.New("api: settings are not valid")
)

// maxReload bounds the body of a reload, which says nothing.
const maxReload = 1 << 10

// reloading returns POST /v1/reload: the answer is {"status":…,"changed":[…]}. It is the one call
// whose answer has the text of mistakes: they are in the files of the operator, who alone has the
// admin key.
func reloading(r Reloader) call {
	restart := problem{errRestart, http.StatusConflict, "restart_required", "Restart the gateway, or set these settings back: they cannot change while it runs, so nothing was changed."}
	invalid := problem{errSettings, http.StatusUnprocessableEntity, "invalid_settings", "Correct the mistakes and reload again: the previous settings stay in effect."}
	return call{
		path:    "/v1/reload",
		access:  byAdmin,
		maxBody: maxReload,
		problems: []problem{
			restart, invalid,
			{errTooLarge, http.StatusRequestEntityTooLarge, "too_large", "Send this request without a body."},
			{errBadRequest, http.StatusBadRequest, "bad_request", "Send this request without a body."},
			unavailable,
		},
		do: func(context.Context, []byte) ([]result, error) {
			done, err := r.Reload()
			switch {
			case len(done.Restart) > 0:
				refused := restart.result()
				refused.Settings = done.Restart
				return []result{refused}, errRestart
			case err != nil:
				refused := invalid.result()
				refused.Mistakes = strings.Split(err.Error(), "\n")
				return []result{refused}, fmt.Errorf("%w: %w", errSettings, err)
			default:
				return []result{{Status: "reloaded", Changed: done.Changed}}, nil
			}
		},
	}
}
