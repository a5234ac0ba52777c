package roster

// fifo is a queue.
type fifo[T any] struct {
	items []T
	head  int // items before it were taken
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(item T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

func (q *fifo[T]) first() (item T, ok bool) {
	if q.len() == 0 {
		return item, false
	}
	return q.items[q.head], true
}

func (q *fifo[T]) pop() (item T, ok bool) {
	if q.len() == 0 {
		return item, false
	}
	item = q.items[q.head]
	clear(q.items[q.head : q.head+1])
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item, true
}
