package consumer

import "slices"

// IsControlType reports whether frames of a type say something of the connection itself. Only the gateway sends them,
// so that a client can trust them.
func IsControlType(typ string) bool { return slices.Contains(ControlTypes(), typ) }

// ControlTypes lists those types.
func ControlTypes() []string {
	return []string{
		"welcome", "subscribed", "unsubscribed", "gap", "error", "pong", "presence", "presence_change", "history", "token_accepted",
	}
}
