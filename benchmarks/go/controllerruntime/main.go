// The controller-runtime side of the benchmarks: `controllerruntime sync`, `ingest`, `reconcile` and `failover`, each
// the counterpart of `ours.py` in the folder of that name.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"syscall"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	ctrl.SetLogger(logr.Discard())
	if len(os.Args) < 2 {
		log.Fatal("which benchmark? sync, ingest, reconcile or failover")
	}
	switch os.Args[1] {
	case "sync":
		runSync(os.Args[2:])
	case "ingest":
		runIngest(os.Args[2:])
	case "reconcile":
		runReconcile(os.Args[2:])
	case "failover":
		runFailover(os.Args[2:])
	default:
		log.Fatalf("no benchmark %q: there are sync, ingest, reconcile and failover", os.Args[1])
	}
}

type fields map[string]float64

// say tells the parent something, in a line of JSON.
func say(event string, values fields) {
	said := map[string]any{"event": event}
	for name, value := range values {
		said[name] = value
	}
	line, _ := json.Marshal(said)
	fmt.Println(string(line))
}

// newCommands reads what the parent tells, line by line.
func newCommands() *bufio.Scanner {
	return bufio.NewScanner(os.Stdin)
}

// cpuSeconds is the processor time of this process so far, of all its threads.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	seconds := func(of syscall.Timeval) float64 { return float64(of.Sec) + float64(of.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}
