def test_probe(learned, tiny, leaves, begin, make_learner):
    import time, torch
    from acis_env.pretraining import evaluate_autoencoder, evaluate_context
    print(evaluate_autoencoder(learned.pretrained.autoencoder, learned.pretrained.context_network, learned.scenes), evaluate_context(learned.pretrained.context_network, learned.scenes))
    print(leaves.label_maps.flatten(1).amax(1))
    s = begin(tiny)
    L = make_learner()
    from agents.episodes import run_episodes
    t=time.time()
    e = run_episodes(L.actor, L.decoder, s)
    print(time.time()-t)
    for st in e.steps: print(st.mean.abs().max(), st.latent[0], st.predicted_mask.flatten(1).std(1), st.predicted_mask.mean((1,2,3)), st.log_variance[0])
    print(e.steps[1].mean[:3], e.steps[1].mask.mean((1,2,3)))
