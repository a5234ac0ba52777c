package bucket_test

import (
	"fmt"
	"time"

	"orgcast/internal/bucket"
)

func ExampleBucket() {
	const perSecond, burst = 2, 3
	b := bucket.New(burst)
	for _, age := range []time.Duration{0, 0, 0, 0, time.Second / 2, time.Second} {
		fmt.Println(age, b.Take(age, perSecond, burst))
	}
	fmt.Println(b.TakeN(time.Hour, perSecond, burst, 4), b.TakeN(time.Hour, perSecond, burst, 3))
	// Output:
	// 0s true
	// 0s true
	// 0s true
	// 0s false
	// 500ms true
	// 1s true
	// false true
}
