package redistest

import "github.com/redis/go-redis/v9"

// Refusal is a reason why a working server refuses a connection.
type Refusal struct {
	// Error is part of the server's error.
	Error string

	change func(s *Server)
	client redis.Options
}

// Refusals returns the reasons by name. Too many clients is not among them, because the client may
// not get to read that error before the connection ends.
func Refusals() map[string]Refusal {
	return map[string]Refusal{
		"the password was changed": {
			Error:  "WRONGPASS",
			change: func(s *Server) { s.must("ACL", "SETUSER", "app", "on", ">new", "~*", "&*", "+@all") },
			client: redis.Options{Username: "app", Password: "old"},
		},
		"the user was deleted": {
			Error:  "WRONGPASS",
			change: func(*Server) {}, // the user never existed, which looks the same
			client: redis.Options{Username: "deleted", Password: "old"},
		},
		"a password is asked for": {
			Error:  "NOAUTH",
			change: func(s *Server) { s.must("ACL", "SETUSER", "default", "resetpass", ">new") },
		},
		"the database does not exist": {
			Error:  "DB index is out of range",
			change: func(*Server) {},
			client: redis.Options{DB: 99},
		},
	}
}

// NewRefusedClient returns a client with the gateway's settings, whose connections the server
// refuses for the given reason.
func (s *Server) NewRefusedClient(r Refusal) *redis.Client {
	s.tb.Helper()
	r.change(s)
	o := r.client
	o.Addr, o.ClientName = s.Addr, "refused"
	o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries = true, -1, 1
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = 8<<10, 8<<10 // pipelines have their own pool
	client := redis.NewClient(&o)
	s.tb.Cleanup(func() { _ = client.Close() })
	if err := client.Ping(s.tb.Context()).Err(); err == nil {
		s.tb.Fatalf("connection that should be refused with %s: got no error", r.Error)
	}
	return client
}
