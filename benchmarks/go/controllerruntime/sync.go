// The sync benchmark: a typed kind, default options, and a reconciler that reads its object (and, when asked, patches
// its status once).
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func runSync(arguments []string) {
	flags := flag.NewFlagSet("sync", flag.ExitOnError)
	objects := flags.Int("objects", 0, "how many objects there are")
	workers := flags.Int("workers", 8, "how many are reconciled at once")
	round := flags.Int64("round", 0, "what to write into each status; 0: write nothing")
	_ = flags.Parse(arguments)
	reconciler := &widgetReconciler{round: *round, waiting: *objects, seen: make([]bool, *objects)}
	manager, err := newManager(reconciler, *workers)
	if err != nil {
		log.Fatal(err)
	}
	say("ready", nil)
	commands := newCommands()
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
	addWidgets(scheme)
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
		say("synced", fields{"seconds": time.Since(r.began).Seconds()})
	}
	return nil
}
