package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"orgcast/internal/config"
)

// adminSettings say which gateway a subcommand asks, and with which key.
type adminSettings struct{ url, key string }

// adminTimeout is longer than a gateway waits for the others.
const adminTimeout = 15 * time.Second

// maxAdminAnswer bounds an answer. A gateway holds no more of the answers of the others.
const maxAdminAnswer = 64 << 20

func (a *adminSettings) declare(set *config.Set) {
	set.String(&a.url, "admin", "http://127.0.0.1:9090", "URL of the private listener of a gateway, which asks all others", checkAdminURL)
	set.Secret(&a.key, "admin-key", "the gateway's --admin-key; not needed on its machine while --admin-listen is a loopback address and no key is set", checkSecret)
}

func checkAdminURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return errors.New("must be a URL such as http://127.0.0.1:9090")
	}
	return nil
}

// get reads one path of the gateway.
func (a *adminSettings) get(ctx context.Context, path string, query url.Values) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	answer, err := a.open(ctx, path, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }() // nothing can be lost
	if body, err = io.ReadAll(io.LimitReader(answer, maxAdminAnswer)); err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.url, err)
	}
	return body, nil
}

// open returns the answer of one path of the gateway. The caller closes it.
func (a *adminSettings) open(ctx context.Context, path string, query url.Values) (answer io.ReadCloser, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(a.url, "/")+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if a.key != "" {
		request.Header.Set("Authorization", "Bearer "+a.key)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w (try --admin)", a.url, errors.Unwrap(err))
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }() // likewise
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAdminAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.url, err)
	}
	var refusal struct{ Code, Message string }
	if json.Unmarshal(body, &refusal) != nil || refusal.Code == "" {
		return nil, fmt.Errorf("ask %s: %s: not the private listener of a gateway of this version", a.url, response.Status)
	}
	return nil, fmt.Errorf("ask %s: %s: %s", a.url, refusal.Code, refusal.Message)
}

// readJSON reads one path of the gateway into what v points to.
func (a *adminSettings) readJSON(ctx context.Context, path string, query url.Values, v any) error {
	body, err := a.get(ctx, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("answer of %s: %w", a.url, err)
	}
	return nil
}
