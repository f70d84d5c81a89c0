// Prints the alerts of dwcp-stream as they come, each once: alerts BOOTSTRAP [-prefix dwcp.] [-count N]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Alert is what is needed here of a message of dwcp.anomalies; docs/asyncapi.yaml has all of it.
type Alert struct {
	Action    string   `json:"action"`
	Severity  string   `json:"severity"`
	Stream    string   `json:"stream"`
	Entity    string   `json:"entity"`
	EventTime string   `json:"event_time"`
	Score     *float64 `json:"score"`
	Fields    []struct {
		Name string `json:"name"`
	} `json:"fields"`
}

func main() {
	prefix := flag.String("prefix", "dwcp.", "what the daemon's topics begin with")
	count := flag.Int("count", 0, "stop after so many alerts; 0: never")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: alerts [-prefix dwcp.] [-count N] BOOTSTRAP")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(flag.Arg(0), ",")...),
		kgo.ConsumeTopics(*prefix+"anomalies"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	defer client.Close()
	seen, printed := map[string]bool{}, 0
	for {
		fetched := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		fetched.EachError(func(topic string, partition int32, err error) {
			fmt.Fprintf(os.Stderr, "error: %s/%d: %v\n", topic, partition, err)
		})
		for _, record := range fetched.Records() {
			// After a crash the daemon may publish an alert again: the id is the same, so it counts once.
			id := header(record, "ce_id")
			if seen[id] {
				continue
			}
			seen[id] = true
			var alert Alert
			if err := json.Unmarshal(record.Value, &alert); err != nil {
				fmt.Fprintf(os.Stderr, "not an alert at %d/%d: %v\n", record.Partition, record.Offset, err)
				continue
			}
			fmt.Println(line(alert))
			if printed++; *count > 0 && printed == *count {
				return
			}
		}
	}
}

func header(record *kgo.Record, name string) string {
	for _, header := range record.Headers {
		if header.Key == name {
			return string(header.Value)
		}
	}
	return ""
}

func line(alert Alert) string {
	why := "-"
	if len(alert.Fields) > 0 {
		why = alert.Fields[0].Name
	}
	score := "-"
	if alert.Score != nil {
		score = fmt.Sprintf("%.2f", *alert.Score)
	}
	return strings.Join([]string{alert.EventTime, alert.Action, alert.Severity, alert.Stream, alert.Entity, score, why}, " ")
}
