package inventory

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"slices"
	"strings"
)

// Row is a row of a page.
type Row[R any] interface {
	// Key is the row's place in the order of pages, the same on all nodes, and never "".
	Key() string
	// Plus joins two rows with the same key.
	Plus(other R) R
	// Measure returns the value of one of [Measures].
	Measure(name string) float64
}

// Page is a page of rows. Its rows are all that there are up to the last of them, and More says that
// there are others after it.
type Page[R any] struct {
	Rows []R  `json:"rows"`
	More bool `json:"more,omitempty"`
}

// spare is how many times more rows than the asker wants a node returns when they are sorted by a
// measure: what is large on all nodes together may not be among the largest of each.
const spare = 4

// MaxPageBytes bounds the text of a page, so that nodes can send it to each other.
const MaxPageBytes = 1000 << 10

// Collector keeps the rows of one page while all rows are passed by. Its work for a row that does not
// make it onto the page is one comparison, and its memory is that of a page.
type Collector[R Row[R]] struct {
	query Query
	limit int
	kept  worstFirst[R]
	more  bool
}

// NewCollector returns a collector of the page that a query asks one node for.
func NewCollector[R Row[R]](q Query) *Collector[R] {
	c := &Collector[R]{query: q, limit: q.Limit}
	if q.Sort != "" {
		c.limit = min(q.Limit*spare, MaxLimit)
	}
	return c
}

// keyed is a row with what decides its place.
type keyed[R any] struct {
	key     string
	measure float64
	row     R
}

// of returns a row with what decides its place on the page of a query.
func of[R Row[R]](row R, q Query) keyed[R] {
	k := keyed[R]{key: row.Key(), row: row}
	if q.Sort != "" {
		k.measure = row.Measure(q.Sort)
	}
	return k
}

// compare orders rows: the largest first, and equal ones by their keys.
func (k keyed[R]) compare(other keyed[R]) int {
	return cmp.Or(cmp.Compare(other.measure, k.measure), strings.Compare(k.key, other.key))
}

// Wants reports whether a row with this key could be on the page, so that its maker can skip it.
func (c *Collector[R]) Wants(key string) bool {
	if key <= c.query.After {
		return false
	}
	if c.query.Sort != "" || len(c.kept) < c.limit || key < c.kept[0].key {
		return true
	}
	c.more = true
	return false
}

// Add passes a row by.
func (c *Collector[R]) Add(row R) {
	k := of(row, c.query)
	if k.key <= c.query.After {
		return
	}
	if len(c.kept) < c.limit {
		heap.Push(&c.kept, k)
		return
	}
	c.more = true
	if k.compare(c.kept[0]) < 0 {
		c.kept[0] = k
		heap.Fix(&c.kept, 0)
	}
}

// Page returns the page. It may have fewer rows than were asked for, so that its text fits into an
// answer.
func (c *Collector[R]) Page() (Page[R], error) {
	p := Page[R]{Rows: sorted(c.kept), More: c.more}
	for {
		text, err := json.Marshal(p)
		if err != nil || len(text) <= MaxPageBytes || len(p.Rows) < 2 {
			return p, err
		}
		p.Rows, p.More = p.Rows[:len(p.Rows)/2], true
	}
}

// sorted returns rows in their order.
func sorted[R any](list []keyed[R]) []R {
	slices.SortFunc(list, keyed[R].compare)
	rows := make([]R, len(list))
	for i, k := range list {
		rows[i] = k.row
	}
	return rows
}

// worstFirst is a heap of rows with the last in the order on top.
type worstFirst[R any] []keyed[R]

// The methods of [heap.Interface].
func (h *worstFirst[R]) Len() int           { return len(*h) }
func (h *worstFirst[R]) Less(i, j int) bool { return (*h)[i].compare((*h)[j]) > 0 }
func (h *worstFirst[R]) Swap(i, j int)      { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push implements [heap.Interface].
func (h *worstFirst[R]) Push(x any) {
	k, _ := x.(keyed[R]) // see Add
	*h = append(*h, k)
}

// Pop implements [heap.Interface].
func (h *worstFirst[R]) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// Merge makes one page of the pages of several nodes. A row is on it only if every node has said all
// that it knows of it.
func Merge[R Row[R]](q Query, pages []Page[R]) Page[R] {
	sums := make(map[string]R)
	end := "" // no row after it is complete; "" if all are
	var merged Page[R]
	for _, p := range pages {
		for _, row := range p.Rows {
			if sum, ok := sums[row.Key()]; ok {
				row = sum.Plus(row)
			}
			sums[row.Key()] = row
		}
		if !p.More {
			continue
		}
		merged.More = true
		if last := len(p.Rows) - 1; last >= 0 && (end == "" || p.Rows[last].Key() < end) {
			end = p.Rows[last].Key()
		}
	}
	var list []keyed[R]
	for key, row := range sums {
		if q.Sort != "" || end == "" || key <= end {
			list = append(list, of(row, q))
		}
	}
	merged.Rows = sorted(list)
	if len(merged.Rows) > q.Limit {
		merged.Rows, merged.More = merged.Rows[:q.Limit], true
	}
	return merged
}
