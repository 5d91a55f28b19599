// The reconcile benchmark: a reconciler that looks at its object, is content, and says when all have been reconciled.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func runReconcile(arguments []string) {
	flags := flag.NewFlagSet("reconcile", flag.ExitOnError)
	server := flags.String("server", "", "base URL of the replay server")
	objects := flags.Int64("objects", 0, "how many objects there are")
	workers := flags.Int("workers", 8, "how many are reconciled at once")
	_ = flags.Parse(arguments)
	config := &rest.Config{Host: *server, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:         ingestScheme(),
		MapperProvider: mapper,
		Metrics:        metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		log.Fatal(err)
	}
	reconciler := &idleReconciler{client: manager.GetClient(), objects: *objects}
	reconciler.left.Store(*objects)
	err = ctrl.NewControllerManagedBy(manager).
		For(&Widget{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: *workers}).
		Complete(reconciler)
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
	if err := manager.Start(ctx); err != nil {
		log.Fatal(err)
	}
}

// idleReconciler is the class of that name in benchmarks/reconcile/ours.py.
type idleReconciler struct {
	client  client.Client
	objects int64
	left    atomic.Int64
	cpu     float64
}

func (r *idleReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var widget Widget
	if err := r.client.Get(ctx, request.NamespacedName, &widget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if widget.Spec.Image == "" {
		return ctrl.Result{}, fmt.Errorf("%s has no image", request)
	}
	if r.left.Add(-1) == 0 {
		// The next round begins when this one has been said to be over.
		r.left.Store(r.objects)
		now := cpuSeconds()
		spent := now - r.cpu
		r.cpu = now
		say("reconciled", fields{"cpu_s": spent})
	}
	return ctrl.Result{}, nil
}
