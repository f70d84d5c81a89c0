// Package verdict reads telemetry as the daemon does, and scores it with the same ONNX graphs in another runtime.
package verdict

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
)

// Field is one column of a stream, as its definition has it.
type Field struct {
	Name       string            `json:"name"`
	Vocabulary []string          `json:"vocabulary"`
	Aliases    map[string]string `json:"aliases"`
}

// Case is a model, the records of a stream, and the verdicts that the daemon gave on them.
type Case struct {
	Model      string   `json:"model"`
	Entity     []string `json:"entity"`
	Time       string   `json:"time"`
	Step       float64  `json:"step"`
	MinPeriods int      `json:"min_periods"`
	Fields     []Field  `json:"fields"`
	Columns    []string `json:"columns"`
	Rows       int      `json:"rows"`
	Window     int      `json:"window"`
	StateSize  int      `json:"state_size"`
	Outputs    []Output `json:"outputs"`

	folder string
}

// Output is an array that the graph gives for one window.
type Output struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

// Verdict is what the daemon said of one row.
type Verdict struct {
	Entity string                `json:"entity"`
	Ts     float64               `json:"ts"`
	Arrays map[string][]*float64 `json:"arrays"`
}

// ReadCase reads the case in a folder: case.json, records.jsonl and verdicts.jsonl.
func ReadCase(folder string) (Case, error) {
	found := Case{folder: folder}
	text, err := os.ReadFile(filepath.Join(folder, "case.json"))
	if err != nil {
		return found, err
	}
	return found, json.Unmarshal(text, &found)
}

// Lines calls a function with each line of one of the case's files.
func (c Case) Lines(name string, take func([]byte) error) error {
	file, err := os.Open(filepath.Join(c.folder, name))
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := take(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}
