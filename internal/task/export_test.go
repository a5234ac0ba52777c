package task

// Decode is what a worker does first with an entry.
func Decode(kind string, fields map[string]string) (*Task, error) { return decode(kind, fields) }

// Fields is the entry that a dispatcher makes of a task.
func (t *Task) Fields() []any { return t.fields() }
