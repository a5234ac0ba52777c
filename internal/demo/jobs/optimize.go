package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"maps"
	"math"
	"time"

	"orgcast/internal/task"
)

const (
	// MaxPictures is how many pictures one job accepts.
	MaxPictures = 4
	// MaxPicture is the largest picture, in bytes.
	MaxPicture = 256 << 10
	// maxPixels bounds how large a small file can become when decoded.
	maxPixels = 4 << 20
	// PictureLife is how long uploaded and optimized pictures are kept.
	PictureLife = time.Hour
	// aimQuality is the worst quality that is chosen automatically. Worse ones are only shown.
	aimQuality = 75
)

// qualities are the qualities that are tried.
func qualities() []int { return []int{90, aimQuality, 50} }

// ErrNoPicture is returned if the organization has no picture of that name.
var ErrNoPicture = errors.New("jobs: no such picture")

// variant is one encoding of a picture.
type variant struct {
	Format  string `json:"format"` // jpeg, png
	Quality int    `json:"quality,omitempty"`
	Width   int    `json:"width"`
	Height  int    `json:"height"`
	Bytes   int    `json:"bytes"`
}

// optimized is the result for a picture.
type optimized struct {
	Image    string    `json:"image"`
	Width    int       `json:"width"`
	Height   int       `json:"height"`
	Before   int       `json:"bytes_before"`
	After    int       `json:"bytes_after"`
	Saved    int       `json:"bytes_saved"`
	Best     variant   `json:"best"`
	Variants []variant `json:"variants"`
	Original bool      `json:"kept_original"` // no variant was smaller
	// Picture and Written are the names under which [Picture] finds the picture before and after,
	// for a while.
	Picture string `json:"picture_before"`
	Written string `json:"picture_after"`

	best []byte // nil if no variant was smaller
}

// optimization is the payload of the job.
type optimization struct {
	OptimizationID string   `json:"optimization_id"`
	JobID          string   `json:"job_id"`
	Images         []string `json:"images"`
}

// group returns the group of the optimization's job.
func (o *optimization) group() string { return "optimization_job_" + o.JobID }

// check fails the job unless its group is valid.
func (o *optimization) check() error { return identifiers(o.OptimizationID, o.JobID) }

// jobUpdate returns the progress of the job.
func (o *optimization) jobUpdate(status string, done int) frame {
	return frame{
		"type": "job_update", "status": status, "job_id": o.JobID, "optimization_id": o.OptimizationID,
		"processed_files": done, "completed_count": done, "total_files": len(o.Images), "progress_percentage": percent(done, len(o.Images)),
	}
}

// update returns the progress of the optimization, and the saved bytes.
func (o *optimization) update(status string, results []optimized) frame {
	before, after := 0, 0
	for _, r := range results {
		before, after = before+r.Before, after+r.After
	}
	return frame{
		"type": "optimization_update", "status": status, "optimization_id": o.OptimizationID, "job_id": o.JobID,
		"processed_files": len(results), "total_files": len(o.Images), "progress_percentage": percent(len(results), len(o.Images)),
		"bytes_before": before, "bytes_after": after, "bytes_saved": before - after,
	}
}

// optimize writes pictures again in several qualities and sizes, and chooses the smallest that
// looks the same.
func (j *jobs) optimize(ctx context.Context, job *task.Job) (any, error) {
	o, err := payload[optimization](job)
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if len(o.Images) == 0 {
		o.Images = builtIn()
	}
	if len(o.Images) > MaxPictures {
		return nil, task.Fail(codeBadPayload)
	}
	results := []optimized{}
	tell := func(more frame) error {
		if err := job.Publish(ctx, o.group(), o.jobUpdate(statusRunning, len(results))); err != nil {
			return err
		}
		update := o.update(statusRunning, results)
		maps.Copy(update, more)
		return job.Progress(ctx, update)
	}
	if err := tell(nil); err != nil {
		return nil, err
	}
	for _, name := range o.Images {
		data, err := Picture(ctx, job.Store, name)
		if errors.Is(err, ErrNoPicture) {
			return nil, task.Fail(codeNoPicture)
		}
		if err != nil {
			return nil, err
		}
		result, err := j.recode(ctx, name, data, func(v variant) error { return tell(frame{"image": name, "variant": v}) })
		if err != nil {
			return nil, err
		}
		result.Picture, result.Written = name, name
		if result.best != nil { // less than the one before, which was bounded; another attempt writes it again
			result.Written = fmt.Sprintf("result-%s-%d", o.OptimizationID, len(results))
			if err := job.Store.Set(ctx, StoredPicture(result.Written), result.best, PictureLife); err != nil {
				return nil, err
			}
		}
		results = append(results, result)
		if err := tell(frame{"image": name, "result": result}); err != nil {
			return nil, err
		}
	}
	end := o.update(statusCompleted, results)
	end["results"] = results
	return task.End{Event: end, Also: []task.Notice{{Group: o.group(), Event: o.jobUpdate(statusCompleted, len(results))}}}, nil
}

// Picture returns a built-in picture, or an uploaded or optimized one from the organization's
// store. If no picture has the name, the error is [ErrNoPicture].
func Picture(ctx context.Context, store *task.Store, name string) ([]byte, error) {
	if data := drawn(name); data != nil {
		return data, nil
	}
	data, err := store.Get(ctx, StoredPicture(name))
	switch {
	case errors.Is(err, task.ErrNotStored), errors.Is(err, task.ErrInvalidName):
		return nil, ErrNoPicture
	case err != nil:
		return nil, err
	case len(data) > MaxPicture:
		return nil, ErrNoPicture
	}
	return data, nil
}

// StoredPicture returns the name of a picture in the organization's store.
func StoredPicture(name string) string { return "picture." + name }

// CheckPicture returns the media type of a picture that can be optimized, and whether data looks
// like one. It reads only the header of the file, and decodes no pixels.
func CheckPicture(data []byte) (mediaType string, ok bool) {
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	ok = err == nil && len(data) <= MaxPicture && (format == "jpeg" || format == "png") &&
		config.Width > 0 && config.Height > 0 && config.Width <= maxPixels/config.Height
	if !ok {
		return "", false
	}
	return "image/" + format, true
}

// recode tries all variants of a picture, one after the other.
func (j *jobs) recode(ctx context.Context, name string, data []byte, tell func(variant) error) (optimized, error) {
	if _, ok := CheckPicture(data); !ok {
		return optimized{}, task.Fail(codeNoPicture)
	}
	source, format, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return optimized{}, fmt.Errorf("%w: %w", task.Fail(codeNoPicture), err)
	}
	size := source.Bounds().Size()
	result := optimized{Image: name, Width: size.X, Height: size.Y, Before: len(data), After: len(data), Original: true}
	result.Best = variant{Format: format, Width: size.X, Height: size.Y, Bytes: len(data)}
	try := func(picture image.Image, format string, quality int) error {
		var b bytes.Buffer
		var err error
		if format == "png" {
			err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, picture)
		} else {
			err = jpeg.Encode(&b, picture, &jpeg.Options{Quality: quality})
		}
		if err != nil {
			return fmt.Errorf("encode picture: %w", err)
		}
		v := variant{Format: format, Quality: quality, Width: picture.Bounds().Dx(), Height: picture.Bounds().Dy(), Bytes: b.Len()}
		result.Variants = append(result.Variants, v)
		same := picture == source && (format == "png" || quality >= aimQuality)
		if same && v.Bytes < result.After {
			result.Best, result.After, result.Original, result.best = v, v.Bytes, false, b.Bytes()
		}
		if err := j.pause(ctx); err != nil {
			return err
		}
		return tell(v)
	}
	if format == "png" {
		if err := try(source, "png", 0); err != nil {
			return optimized{}, err
		}
	}
	small := halve(source)
	for _, picture := range []image.Image{source, small} {
		if !opaque(picture) {
			continue // a JPEG has no transparency
		}
		for _, quality := range qualities() {
			if err := try(picture, "jpeg", quality); err != nil {
				return optimized{}, err
			}
		}
	}
	result.Saved = result.Before - result.After
	return result, nil
}

// opaque reports whether the picture has no transparency.
func opaque(picture image.Image) bool {
	o, ok := picture.(interface{ Opaque() bool })
	return !ok || o.Opaque()
}

// halve returns the picture in half its width and height. Each pixel is the mean of four.
func halve(source image.Image) image.Image {
	bounds := source.Bounds()
	small := image.NewRGBA64(image.Rect(0, 0, max(bounds.Dx()/2, 1), max(bounds.Dy()/2, 1)))
	for y := range small.Rect.Dy() {
		for x := range small.Rect.Dx() {
			var sum [4]uint32
			for n := range 4 {
				r, g, b, a := source.At(min(bounds.Min.X+2*x+n%2, bounds.Max.X-1), min(bounds.Min.Y+2*y+n/2, bounds.Max.Y-1)).RGBA()
				for i, value := range [4]uint32{r, g, b, a} {
					sum[i] += value
				}
			}
			small.SetRGBA64(x, y, color.RGBA64{R: uint16(sum[0] / 4), G: uint16(sum[1] / 4), B: uint16(sum[2] / 4), A: uint16(sum[3] / 4)}) //nolint:gosec // a mean of 16 bits has 16 bits
		}
	}
	return small
}

// builtIn returns the names of the built-in pictures.
func builtIn() []string { return []string{"landscape", "chart"} }

// drawn draws a built-in picture, or returns nil. Both are encoded wastefully, as by cameras and
// screenshots, so that there is something to save.
func drawn(name string) []byte {
	const width, height = 320, 240
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	var b bytes.Buffer
	switch name {
	case "landscape":
		for y := range height {
			for x := range width {
				grain := uint8((x*73856093 ^ y*19349663) >> 7 & 7)
				sky := uint8(y * 160 / height)
				c := color.RGBA{R: 80 + sky/2 + grain, G: 120 + sky/2 + grain, B: 230 - sky/2 + grain/2, A: 255}
				if hill := 150 - int(26*math.Sin(float64(x)/50)+8*math.Sin(float64(x)/15)); y > hill {
					c = color.RGBA{R: 40 + grain, G: uint8(max(150-(y-hill)/2, 40)) + grain, B: 50 + grain, A: 255} //nolint:gosec // up to 157
				}
				picture.SetRGBA(x, y, c)
			}
		}
		_ = jpeg.Encode(&b, picture, &jpeg.Options{Quality: 98}) // a buffer takes everything
	case "chart":
		for y := range height {
			for x := range width {
				c := color.RGBA{R: 250, G: 250, B: 252, A: 255}
				if bar := x / 64; x%64 > 14 && height-y < 40+(bar*37+bar*bar*11)%180 {
					c = color.RGBA{R: 40, G: uint8(90 + bar*15), B: 190, A: 255}
				}
				picture.SetRGBA(x, y, c)
			}
		}
		_ = (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, picture) // a buffer takes everything
	default:
		return nil
	}
	return b.Bytes()
}

// optimizationFailed also tells the viewers of the job. They know its progress from earlier events.
func optimizationFailed(job *task.Job, code string) any {
	o, _ := payload[optimization](job) // empty if it cannot be parsed
	end := task.End{Event: frame{
		"type": "optimization_update", "status": statusFailed, "optimization_id": o.OptimizationID, "job_id": o.JobID,
		"code": code, "message": explain(code),
	}}
	if o.check() == nil {
		end.Also = []task.Notice{{Group: o.group(), Event: frame{
			"type": "job_update", "status": statusFailed, "optimization_id": o.OptimizationID, "job_id": o.JobID,
			"code": code, "message": explain(code),
		}}}
	}
	return end
}
