package verdict

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
)

const (
	tolerance = 1e-5 // relative, and absolute below 1
	batch     = 4    // as the daemon runs a graph: a single window is repeated
)

func TestMain(m *testing.M) {
	library := os.Getenv("ONNXRUNTIME_LIB")
	if library == "" {
		fmt.Fprintln(os.Stderr, "ONNXRUNTIME_LIB is not set: give the path of libonnxruntime.so")
		os.Exit(2)
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(); err != nil {
		fmt.Fprintln(os.Stderr, "onnxruntime cannot be loaded from", library, "-", err)
		os.Exit(2)
	}
	code := m.Run()
	ort.DestroyEnvironment()
	os.Exit(code)
}

func TestRecordsGetTheVerdictsOfTheDaemon(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(os.Getenv("DWCP_GO_CASES"), "*", "case.json"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("DWCP_GO_CASES=%q holds no case: %v", os.Getenv("DWCP_GO_CASES"), err)
	}
	for _, file := range folders {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) { replay(t, folder) })
	}
}

// replay takes every record through decoding and windows into the graph, and compares each verdict.
func replay(t *testing.T, folder string) {
	c, err := ReadCase(folder)
	check(t, err)
	wanted := map[string]Verdict{}
	check(t, c.Lines("verdicts.jsonl", func(line []byte) error {
		var verdict Verdict
		err := json.Unmarshal(line, &verdict)
		wanted[key(verdict.Entity, verdict.Ts)] = verdict
		return err
	}))
	graph := open(t, c)
	windows, states := map[string]*Window{}, map[string][]float32{}
	compared := 0
	check(t, c.Lines("records.jsonl", func(line []byte) error {
		sample, err := c.Decode(line)
		if err != nil {
			return err
		}
		window := windows[sample.Entity]
		if window == nil {
			window = &Window{}
			windows[sample.Entity] = window
		}
		window.Add(sample, c.Step, c.Window)
		if window.filled < c.MinPeriods {
			return nil
		}
		verdict, there := wanted[key(sample.Entity, sample.Ts)]
		if !there {
			return fmt.Errorf("the daemon has no verdict on %s at %v", sample.Entity, sample.Ts)
		}
		found := graph.run(t, window, states[sample.Entity])
		states[sample.Entity] = found["state_out"]
		for name, array := range verdict.Arrays {
			for i, value := range array {
				if !near(float64(found[name][i]), value) {
					t.Fatalf("%s[%d] of %s at %v: %v here, %v there", name, i, sample.Entity, sample.Ts, found[name][i], show(value))
				}
			}
		}
		compared++
		return nil
	}))
	if compared != len(wanted) || compared == 0 {
		t.Fatalf("%d verdicts compared of %d", compared, len(wanted))
	}
	t.Logf("%d verdicts agree", compared)
}

type session struct {
	c       Case
	session *ort.DynamicAdvancedSession
}

func open(t *testing.T, c Case) session {
	model, err := os.ReadFile(c.Model)
	check(t, err)
	inputs, outputs := []string{"window", "time"}, []string{}
	if c.StateSize > 0 {
		inputs = append(inputs, "state_in")
	}
	for _, output := range c.Outputs {
		outputs = append(outputs, output.Name)
	}
	found, err := ort.NewDynamicAdvancedSessionWithONNXData(model, inputs, outputs, nil)
	check(t, err)
	t.Cleanup(func() { found.Destroy() })
	return session{c, found}
}

func (s session) run(t *testing.T, window *Window, state []float32) map[string][]float32 {
	values, times := window.Inputs(s.c)
	inputs := []ort.Value{
		tensor(t, repeat(values), batch, int64(s.c.Rows), int64(len(s.c.Columns))),
		tensor(t, repeat(times), batch, int64(s.c.Rows)),
	}
	if s.c.StateSize > 0 {
		if state == nil {
			state = make([]float32, s.c.StateSize)
			for i := range state {
				state[i] = float32(math.NaN())
			}
		}
		inputs = append(inputs, tensor(t, repeat(state), batch, int64(s.c.StateSize)))
	}
	outputs := make([]ort.Value, len(s.c.Outputs)) // the runtime makes them
	check(t, s.session.Run(inputs, outputs))
	found := map[string][]float32{}
	for i, output := range s.c.Outputs {
		given, ok := outputs[i].(*ort.Tensor[float32])
		if !ok {
			t.Fatalf("%s is not float32", output.Name)
		}
		found[output.Name] = append([]float32{}, given.GetData()[:output.Size]...)
	}
	for _, value := range append(inputs, outputs...) {
		value.Destroy()
	}
	return found
}

func tensor[T ort.TensorData](t *testing.T, data []T, shape ...int64) *ort.Tensor[T] {
	made, err := ort.NewTensor(ort.NewShape(shape...), data)
	check(t, err)
	return made
}

func repeat[T any](one []T) []T {
	all := []T{}
	for i := 0; i < batch; i++ {
		all = append(all, one...)
	}
	return all
}

func near(here float64, there *float64) bool {
	if there == nil || math.IsNaN(here) {
		return there == nil && math.IsNaN(here)
	}
	return math.Abs(here-*there) <= tolerance*math.Max(1, math.Abs(*there))
}

func show(value *float64) any {
	if value == nil {
		return "NaN"
	}
	return *value
}

func key(entity string, ts float64) string { return fmt.Sprintf("%s@%.3f", entity, ts) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
