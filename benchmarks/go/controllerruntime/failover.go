// The failover benchmark: a manager that is elected, keeps its caches warm while it stands by, gives its lease back when
// it is stopped, and says when it first works.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func runFailover(arguments []string) {
	flags := flag.NewFlagSet("failover", flag.ExitOnError)
	lease := flags.Duration("lease", 15*time.Second, "duration of the lease")
	_ = flags.Parse(arguments)
	deadline, period, warm := *lease*2/3, *lease*2/15, true
	scheme := runtime.NewScheme()
	addWidgets(scheme)
	config, err := ctrl.GetConfig()
	if err != nil {
		log.Fatal(err)
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Metrics:                       metricsserver.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              "failover-controller-runtime",
		LeaderElectionNamespace:       "default",
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 lease,
		RenewDeadline:                 &deadline,
		RetryPeriod:                   &period,
	})
	if err != nil {
		log.Fatal(err)
	}
	err = ctrl.NewControllerManagedBy(manager).
		For(&Widget{}).
		WithOptions(controller.Options{EnableWarmup: &warm}).
		Complete(&firstReconciler{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		manager.GetCache().WaitForCacheSync(ctx)
		say("warm", nil)
		commands := newCommands()
		for commands.Scan() {
		}
		stop()
	}()
	if err := manager.Start(ctx); err != nil {
		log.Fatal(err)
	}
}

// firstReconciler is the class of that name in benchmarks/failover/ours.py.
type firstReconciler struct {
	once sync.Once
}

func (r *firstReconciler) Reconcile(context.Context, ctrl.Request) (ctrl.Result, error) {
	r.once.Do(func() { say("reconciled", nil) })
	return ctrl.Result{}, nil
}
