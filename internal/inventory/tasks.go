package inventory

// Tasks are the numbers of tasks of a kind: in the lines of organizations, in the stream but not read,
// with a worker, and dead.
type Tasks struct {
	Kind         string `json:"kind"`
	Waiting      int64  `json:"waiting"`
	WaitingBytes int64  `json:"waiting_bytes"`
	Unread       int64  `json:"unread"`
	Held         int64  `json:"held"`
	Dead         int64  `json:"dead"`
}

// TaskLine is an organization's line of tasks of a kind.
type TaskLine struct {
	Organization string `json:"organization_id"`
	Tasks        int64  `json:"tasks"`
	Bytes        int64  `json:"bytes"`
	Weight       int64  `json:"weight"`
}
