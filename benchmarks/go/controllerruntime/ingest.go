// The ingest benchmark: an informer alone that counts its events, or a manager whose reconciler notes how old the event
// is that its object comes from. Both read JSON, also Pods, since that is what is replayed.
package main

import (
	"context"
	"flag"
	"log"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"net/http"
)

// As in benchmarks/ingest/objects.py.
const (
	sentAnnotation = "benchmarks.kaito.sh/sent-ns"
	firstVersion   = 1_000_000_000
)

type ingestOptions struct {
	config                           *rest.Config
	kind                             client.Object
	objects, warmUp, events, workers int
}

func runIngest(arguments []string) {
	flags := flag.NewFlagSet("ingest", flag.ExitOnError)
	server := flags.String("server", "", "base URL of the replay server")
	shape := flags.String("shape", "", "widget or pod")
	objects := flags.Int("objects", 0, "how many objects there are")
	warmUp := flags.Int("warm-up", 0, "events that are not measured")
	events := flags.Int("events", 0, "events that are measured, after the warm-up")
	reconcile := flags.Bool("reconcile", false, "a manager with a controller, not an informer alone")
	workers := flags.Int("workers", 8, "how many are reconciled at once")
	_ = flags.Parse(arguments)
	options := ingestOptions{
		config:  &rest.Config{Host: *server, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}},
		kind:    map[string]client.Object{"widget": &Widget{}, "pod": &corev1.Pod{}}[*shape],
		objects: *objects, warmUp: *warmUp, events: *events, workers: *workers,
	}
	say("ready", nil)
	commands := newCommands()
	commands.Scan()
	ctx, stop := context.WithCancel(context.Background())
	report := func(int64) {}
	if *reconcile {
		report = startLatency(ctx, options)
	} else {
		startCounter(ctx, options)
	}
	for commands.Scan() {
		endedNs, err := strconv.ParseInt(strings.TrimPrefix(commands.Text(), "report "), 10, 64)
		if err != nil {
			log.Fatal(err)
		}
		report(endedNs)
	}
	stop()
}

func ingestScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	addWidgets(scheme)
	if err := corev1.AddToScheme(scheme); err != nil {
		log.Fatal(err)
	}
	return scheme
}

// mapper knows both kinds: the replay server has no discovery.
func mapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	known := meta.NewDefaultRESTMapper([]schema.GroupVersion{widgetGroup, corev1.SchemeGroupVersion})
	known.Add(widgetGroup.WithKind("Widget"), meta.RESTScopeNamespace)
	known.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	return known, nil
}

type phase struct {
	event string
	count int64
}

// eventCounter says when the objects, the warm-up and the events have passed.
type eventCounter struct {
	phases []phase
	left   atomic.Int64
	cpu    float64
}

func startCounter(ctx context.Context, options ingestOptions) {
	known, _ := mapper(nil, nil)
	informers, err := cache.New(options.config, cache.Options{Scheme: ingestScheme(), Mapper: known})
	if err != nil {
		log.Fatal(err)
	}
	informer, err := informers.GetInformer(ctx, options.kind, cache.BlockUntilSynced(false))
	if err != nil {
		log.Fatal(err)
	}
	counter := &eventCounter{phases: []phase{
		{"synced", int64(options.objects)}, {"warm", int64(options.warmUp)}, {"done", int64(options.events)},
	}}
	counter.left.Store(counter.phases[0].count)
	handler := toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { counter.count() },
		UpdateFunc: func(any, any) { counter.count() },
	}
	if _, err := informer.AddEventHandler(handler); err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := informers.Start(ctx); err != nil {
			log.Fatal(err)
		}
	}()
}

func (c *eventCounter) count() {
	if c.left.Add(-1) != 0 {
		return
	}
	now := cpuSeconds()
	say(c.phases[0].event, fields{"cpu_s": now - c.cpu})
	c.cpu = now
	if c.phases = c.phases[1:]; len(c.phases) > 0 {
		c.left.Store(c.phases[0].count)
	}
}

// latencyReconciler notes how old the event is that an object comes from; see the class of that name in ours.py.
type latencyReconciler struct {
	client client.Client
	ingestOptions

	lock         sync.Mutex
	sentNs       []int64
	reconciledNs []int64
	initial      []bool
	phases       []phase
	waiting      int
	cpu          float64
}

func startLatency(ctx context.Context, options ingestOptions) func(int64) {
	total := options.warmUp + options.events
	reconciler := &latencyReconciler{
		ingestOptions: options,
		sentNs:        make([]int64, total),
		reconciledNs:  make([]int64, total),
		initial:       make([]bool, options.objects),
		phases:        []phase{{"synced", 0}, {"warm", int64(options.warmUp)}, {"done", int64(total)}},
		waiting:       options.objects,
	}
	manager, err := ctrl.NewManager(options.config, ctrl.Options{
		Scheme:         ingestScheme(),
		MapperProvider: mapper,
		Metrics:        metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		log.Fatal(err)
	}
	reconciler.client = manager.GetClient()
	err = ctrl.NewControllerManagedBy(manager).
		For(options.kind).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.workers}).
		Complete(reconciler)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := manager.Start(ctx); err != nil {
			log.Fatal(err)
		}
	}()
	return reconciler.report
}

func (r *latencyReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	obj := r.kind.DeepCopyObject().(client.Object)
	if err := r.client.Get(ctx, request.NamespacedName, obj); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	version, err := strconv.Atoi(obj.GetResourceVersion())
	if err != nil {
		return ctrl.Result{}, err
	}
	sentNs, err := strconv.ParseInt(obj.GetAnnotations()[sentAnnotation], 10, 64)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.note(version-firstVersion-r.objects, sentNs, time.Now().UnixNano())
	return ctrl.Result{}, nil
}

func (r *latencyReconciler) note(number int, sentNs, nowNs int64) {
	r.lock.Lock()
	defer r.lock.Unlock()
	var news bool
	if number < 0 {
		news = !r.initial[number+r.objects]
		r.initial[number+r.objects] = true
	} else {
		news = r.reconciledNs[number] == 0
		r.sentNs[number], r.reconciledNs[number] = sentNs, nowNs
	}
	if len(r.phases) == 0 || !news || number < int(r.phases[0].count)-r.objects {
		return
	}
	if r.waiting--; r.waiting > 0 {
		return
	}
	now := cpuSeconds()
	say(r.phases[0].event, fields{"cpu_s": now - r.cpu})
	r.cpu, r.phases, r.waiting = now, r.phases[1:], r.objects
}

func (r *latencyReconciler) report(endedNs int64) {
	r.lock.Lock()
	defer r.lock.Unlock()
	var waited []int64
	backlog := 0
	for number := r.warmUp; number < len(r.sentNs); number++ {
		if r.reconciledNs[number] == 0 {
			continue
		}
		waited = append(waited, r.reconciledNs[number]-r.sentNs[number])
		if r.reconciledNs[number] > endedNs {
			backlog++
		}
	}
	sort.Slice(waited, func(one, other int) bool { return waited[one] < waited[other] })
	ms := func(index int) float64 { return float64(waited[index]) / 1e6 }
	say("report", fields{
		"p50_ms":     ms(len(waited) / 2),
		"p99_ms":     ms(len(waited) * 99 / 100),
		"max_ms":     ms(len(waited) - 1),
		"backlog":    float64(backlog),
		"reconciles": float64(len(waited)),
	})
}
