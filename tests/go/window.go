package verdict

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
)

// Sample is one decoded record: a value per field of the stream, NaN where it has none.
type Sample struct {
	Entity string
	Ts     float64
	Values []float32
}

// Decode reads a JSON sample: numbers as they are, words as their place in the vocabulary.
func (c Case) Decode(record []byte) (Sample, error) {
	var plain map[string]any
	if err := json.Unmarshal(record, &plain); err != nil {
		return Sample{}, err
	}
	parts := make([]string, len(c.Entity))
	for i, name := range c.Entity {
		parts[i] = url.PathEscape(fmt.Sprint(plain[name]))
	}
	ts, ok := plain[c.Time].(float64)
	if !ok {
		return Sample{}, fmt.Errorf("%s is no number: %v", c.Time, plain[c.Time])
	}
	values := make([]float32, len(c.Fields))
	for i, field := range c.Fields {
		value, err := field.code(plain[field.Name])
		if err != nil {
			return Sample{}, err
		}
		values[i] = value
	}
	return Sample{strings.Join(parts, "/"), ts, values}, nil
}

func (f Field) code(value any) (float32, error) {
	switch given := value.(type) {
	case nil:
		return float32(math.NaN()), nil
	case float64:
		return float32(given), nil
	case string:
		for alias, word := range f.Aliases {
			if strings.EqualFold(alias, given) {
				given = word
				break
			}
		}
		for code, word := range f.Vocabulary {
			if strings.EqualFold(word, given) {
				return float32(code), nil
			}
		}
	}
	return 0, fmt.Errorf("%s has no meaning for %q", f.Name, value)
}

// Window holds the last rows of an entity on the stream's time grid.
type Window struct {
	anchor float64
	last   int
	filled int
	rows   map[int][]float32
}

// Add puts a sample into its row and forgets rows that have left the window.
func (w *Window) Add(s Sample, step float64, length int) {
	if w.rows == nil {
		w.anchor, w.rows = s.Ts, map[int][]float32{}
	}
	w.last = int(math.Round((s.Ts - w.anchor) / step))
	w.rows[w.last] = s.Values
	for row := range w.rows {
		if row <= w.last-length {
			delete(w.rows, row)
		}
	}
	w.filled = len(w.rows)
}

// Inputs returns the model's part of the window, oldest row first, and the rows' times.
func (w *Window) Inputs(c Case) ([]float32, []float64) {
	index := map[string]int{}
	for i, field := range c.Fields {
		index[field.Name] = i
	}
	values, times := []float32{}, []float64{}
	for row := w.last - c.Rows + 1; row <= w.last; row++ {
		held := w.rows[row]
		for _, column := range c.Columns {
			value := float32(math.NaN())
			if held != nil {
				value = held[index[column]]
			}
			values = append(values, value)
		}
		times = append(times, w.anchor+float64(row)*c.Step)
	}
	return values, times
}
