package inventory

import "encoding/json"

// Webhooks are the numbers of webhooks of an organization, or of all.
type Webhooks struct {
	Waiting      int64 `json:"waiting"`
	WaitingBytes int64 `json:"waiting_bytes"`
	Dead         int64 `json:"dead"`
}

// DeadLetter is a webhook that was given up.
type DeadLetter struct {
	ID string `json:"id"`
	// Line is where it waited: user:USER or group:GROUP.
	Line string `json:"line"`
	// Webhook is what the receiver would have got, nil if the entry in Redis was changed.
	Webhook json.RawMessage `json:"webhook,omitempty"`
	// Attempts is how often it was tried, and Reason why the last attempt failed.
	Attempts int    `json:"attempts"`
	Reason   string `json:"reason"`
}
