// The controller-runtime side of `python -m benchmarks.sync`: a typed kind, default options, and a reconciler that
// reads its object (and, when asked, patches its status once).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	objects := flag.Int("objects", 0, "how many objects there are")
	workers := flag.Int("workers", 8, "how many are reconciled at once")
	round := flag.Int64("round", 0, "what to write into each status; 0: write nothing")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	reconciler := &widgetReconciler{round: *round, waiting: *objects, seen: make([]bool, *objects)}
	manager, err := newManager(reconciler, *workers)
	if err != nil {
		log.Fatal(err)
	}
	commands := bufio.NewScanner(os.Stdin)
	say("ready", 0)
	commands.Scan()
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for commands.Scan() {
		}
		stop()
	}()
	reconciler.began = time.Now()
	if err := manager.Start(ctx); err != nil {
		log.Fatal(err)
	}
}

func newManager(reconciler *widgetReconciler, workers int) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	group := schema.GroupVersion{Group: "benchmarks.kaito.sh", Version: "v1"}
	scheme.AddKnownTypes(group, &Widget{}, &WidgetList{})
	metav1.AddToGroupVersion(scheme, group)
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return nil, err
	}
	reconciler.client = manager.GetClient()
	return manager, ctrl.NewControllerManagedBy(manager).
		For(&Widget{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(reconciler)
}

type widgetReconciler struct {
	client client.Client
	round  int64
	began  time.Time

	lock    sync.Mutex
	waiting int
	seen    []bool
}

func (r *widgetReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var widget Widget
	if err := r.client.Get(ctx, request.NamespacedName, &widget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if widget.Spec.Image == "" {
		return ctrl.Result{}, fmt.Errorf("%s has no image", request)
	}
	if r.round != 0 && widget.Status.Round != r.round {
		before := widget.DeepCopy()
		widget.Status.Round = r.round
		if err := r.client.Status().Patch(ctx, &widget, client.MergeFrom(before)); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.count(request.Name)
}

func (r *widgetReconciler) count(name string) error {
	index, err := strconv.Atoi(name[len(name)-6:])
	if err != nil {
		return err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.seen[index] {
		return nil
	}
	r.seen[index] = true
	r.waiting--
	if r.waiting == 0 {
		say("synced", time.Since(r.began).Seconds())
	}
	return nil
}

func say(event string, seconds float64) {
	line, _ := json.Marshal(map[string]any{"event": event, "seconds": seconds})
	fmt.Println(string(line))
}

// The kind, field for field that of benchmarks/widgets.py.

type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WidgetSpec   `json:"spec"`
	Status WidgetStatus `json:"status,omitempty"`
}

type WidgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Widget `json:"items"`
}

type WidgetSpec struct {
	Image       string            `json:"image"`
	Replicas    int64             `json:"replicas"`
	Revision    int64             `json:"revision"`
	Paused      bool              `json:"paused"`
	Description string            `json:"description"`
	Resources   map[string]string `json:"resources"`
	Ports       []Port            `json:"ports"`
	Env         []EnvVar          `json:"env"`
}

type Port struct {
	Name     string `json:"name"`
	Port     int64  `json:"port"`
	Protocol string `json:"protocol"`
}

type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type WidgetStatus struct {
	Round int64 `json:"round,omitempty"`
}

// What deepcopy-gen would write.

func (in *WidgetSpec) DeepCopyInto(out *WidgetSpec) {
	*out = *in
	if in.Resources != nil {
		out.Resources = make(map[string]string, len(in.Resources))
		for key, value := range in.Resources {
			out.Resources[key] = value
		}
	}
	if in.Ports != nil {
		out.Ports = make([]Port, len(in.Ports))
		copy(out.Ports, in.Ports)
	}
	if in.Env != nil {
		out.Env = make([]EnvVar, len(in.Env))
		copy(out.Env, in.Env)
	}
}

func (in *Widget) DeepCopyInto(out *Widget) {
	*out = *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Spec.DeepCopyInto(&out.Spec)
}

func (in *Widget) DeepCopy() *Widget {
	out := new(Widget)
	in.DeepCopyInto(out)
	return out
}

func (in *Widget) DeepCopyObject() runtime.Object { return in.DeepCopy() }

func (in *WidgetList) DeepCopyObject() runtime.Object {
	out := &WidgetList{TypeMeta: in.TypeMeta}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	if in.Items != nil {
		out.Items = make([]Widget, len(in.Items))
		for index := range in.Items {
			in.Items[index].DeepCopyInto(&out.Items[index])
		}
	}
	return out
}
